"""MALMEN: values made by a hypernetwork, and its training by sums over parties."""
