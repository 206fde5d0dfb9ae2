"""Rewards: named terms, each a pure function of one rollout, weighted and summed. `compose.TERMS` is the registry."""
