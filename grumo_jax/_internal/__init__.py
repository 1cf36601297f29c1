"""Internal utilities that know nothing of depth or networks; see README.md here."""
