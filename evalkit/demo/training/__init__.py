"""How the embedded model was made. Nothing here runs when evalkit is used."""
