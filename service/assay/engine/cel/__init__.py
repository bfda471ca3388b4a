"""CEL for rules: text, celpy parse tree, typed tree, check against declared facts, generated Python."""
