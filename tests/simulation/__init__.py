"""The whole engine on virtual time, with a GitHub, machines and people that misbehave."""
