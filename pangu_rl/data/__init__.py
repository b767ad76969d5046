"""Rows -> records -> token ids -> packs. Neither stage nor model knows where a prompt came from."""

from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.data.conversations import Conversation, LoadedConversations, load_conversations
from pangu_rl.data.prompts import LoadedPrompts, load_prompts
from pangu_rl.data.stream import PromptStream

__all__ = [
    "ChatTemplate",
    "Conversation",
    "LoadedConversations",
    "LoadedPrompts",
    "PromptStream",
    "load_conversations",
    "load_prompts",
]
