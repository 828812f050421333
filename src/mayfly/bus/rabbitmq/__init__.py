"""The bus in RabbitMQ: one quorum queue for each pool, and one beside it for its dead messages."""

from mayfly.bus.rabbitmq.leases import declare, elsewhere, open_bus, remove

__all__ = ["declare", "elsewhere", "open_bus", "remove"]
