"""The mail server: its address, one connection to it, and what its replies mean for a letter."""

from postroom.smtp.conversation import Command, Kind, Outcome
from postroom.smtp.mailer import Mailer
from postroom.smtp.opening import Greeting, Patience
from postroom.smtp.server import VARIABLE, Server, read_server
from postroom.smtp.wire import wire

__all__ = [
    "VARIABLE",
    "Command",
    "Greeting",
    "Kind",
    "Mailer",
    "Outcome",
    "Patience",
    "Server",
    "read_server",
    "wire",
]
