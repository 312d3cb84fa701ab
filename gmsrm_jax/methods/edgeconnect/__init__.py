"""EdgeConnect (Nazeri et al., ICCVW 2019, arXiv 1901.00212): lines first, colour next."""
