"""The bus in RabbitMQ: one quorum queue for each pool, and one beside it for its dead messages."""

from mayfly.bus.rabbitmq.leases import declare, open_bus

__all__ = ["declare", "open_bus"]
