"""python -m llmchat: the same as the llmchat command."""

from llmchat.cli import main

if __name__ == "__main__":
    main()
