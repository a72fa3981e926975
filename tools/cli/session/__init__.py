"""What the exchange plays, how far it is in it, and the proof that all of it is answered."""
