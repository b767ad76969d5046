"""Chat messages on their way into a template, and what the template made of them."""
