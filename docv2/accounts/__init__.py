"""Who may call docv2."""
