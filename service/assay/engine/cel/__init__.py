"""CEL expressions: text to syntax tree, checked tree, generated Python, and exact evaluation."""
