"""All AMQP code: connections, declarations, confirmed publishing, and the one module that settles deliveries."""
