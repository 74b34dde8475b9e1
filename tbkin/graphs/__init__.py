"""What a scene graph is: plain data, nothing learned."""
