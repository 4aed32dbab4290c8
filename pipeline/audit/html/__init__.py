"""The report of an audit as one HTML file. It needs no network, fits screens and paper, and has a light and a dark form."""
