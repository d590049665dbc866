"""Networks trained on pairs made by Wald's protocol."""
