"""Truth at start: is a packed model the same as the model alone?"""
