"""The nouns of Mayfly and the arithmetic on them: values in, values out, no I/O."""
