"""Training: a policy by reward (GRPO) or from true answers (SFT), through TRL on accelerate."""
