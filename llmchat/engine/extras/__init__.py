"""Engines that are installed in addition, for networks that llmchat has no plan of."""
