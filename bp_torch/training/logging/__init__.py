"""What is measured while a network trains, and the loggers that receive it."""
