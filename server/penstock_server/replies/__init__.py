"""OpenAI's reply layouts as bytes. What is the same in all chunks of a stream is rendered once per request."""
