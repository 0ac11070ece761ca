"""How the field of view walks over an example while the network learns."""
