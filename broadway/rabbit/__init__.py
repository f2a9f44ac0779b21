"""The only AMQP: connections, declarations, confirmed publishing, and the one place that settles deliveries."""
