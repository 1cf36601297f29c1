"""Tools of the library's own that know nothing of depth or networks; see README.md in here."""
