"""What a model can do besides its edits: the perplexity of a text, named tasks."""
