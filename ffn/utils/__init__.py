"""The ground floor: geometry, volumes, files, masks and messages that every stage uses."""
