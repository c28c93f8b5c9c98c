"""The clients of the app are those of collabedit-flower."""

from clients.app import app as clients

app = clients  # Flower looks for this line
