"""The durable queue and the accounts."""
