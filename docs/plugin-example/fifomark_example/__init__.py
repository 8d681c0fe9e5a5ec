"""A family of networks, a data set and a metric for fifomark. Importing it imports nothing heavy: torch waits until a model is built."""
