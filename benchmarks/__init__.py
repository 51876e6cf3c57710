"""What docv2's speed and memory are held to: `make bench` measures it, docs/performance.md keeps the results."""
