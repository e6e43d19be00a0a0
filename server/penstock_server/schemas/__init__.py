"""What a request's body may hold. A field is honoured or refused by name, never dropped."""
