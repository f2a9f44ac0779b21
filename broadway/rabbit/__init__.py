"""The only AMQP: connections, declarations, confirmed publishing, and the one place that settles deliveries."""

from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import BrokerUnreachableError, LoginRefusedError, UntrustedError
from broadway.rabbit.declaring import QueueState
from broadway.rabbit.single_take import Taken, Taker
from broadway.rabbit.subscription import Subscription

__all__ = [
    "BrokerUnreachableError",
    "LoginRefusedError",
    "QueueState",
    "Rabbit",
    "Subscription",
    "Taken",
    "Taker",
    "UntrustedError",
]
