"""How the server sums what parties send under masks."""
