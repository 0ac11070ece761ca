"""The command `ffn`: one module for each subcommand; flags in, one library call out."""
