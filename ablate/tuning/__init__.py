"""Tuning of hyper-parameters on the dev set: spaces, trials by ask and tell, winners. Test sets have no part in it."""
