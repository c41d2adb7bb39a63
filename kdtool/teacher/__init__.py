"""Teachers: language models over senones, phones and subwords, behind one interface."""
