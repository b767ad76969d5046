"""Rows -> records -> token ids -> packs. Neither stage nor model knows where a prompt came from."""

from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.data.conversations import Conversation, load_conversations
from pangu_rl.data.prompts import load_prompts
from pangu_rl.data.stream import PromptStream

__all__ = [
    "ChatTemplate",
    "Conversation",
    "PromptStream",
    "load_conversations",
    "load_prompts",
]
