"""What is measured while a network trains, and who is told of it."""
