"""The web server of `gmsrm serve`: a page for people, and one REST call for programs."""
