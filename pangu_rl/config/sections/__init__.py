"""Sections that several stages share: model, data, learner, rollout, rewards, trainer and what they hold."""
