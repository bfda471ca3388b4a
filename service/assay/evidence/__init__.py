"""What endpoints were seen to do: checks, counts and their shapes. Values in, values out."""
