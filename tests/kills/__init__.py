"""Kills: the real window, and `--once --save`, ended by SIGKILL at moments that nobody chose.

    python -m tests.kills --window 120 --once 80

What the screen showed as finished before must be in the conversation when it is opened again, a
deletion or a step back must be there whole or not at all, and nothing may be reported as damaged.
"""
