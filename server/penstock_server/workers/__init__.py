"""Several API processes in front of one engine. One parent owns what there is one of: engine, socket, responses."""
