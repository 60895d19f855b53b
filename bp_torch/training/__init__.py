"""Training by stochastic gradient descent, with every gradient checked on the way."""
