# Transport: the control socket.
#
#   _protocol.py   the wire: lines of JSON, parsed and checked
#   _server.py     its server
#   _peer.py       the process and the user at the other end
#   _client.py     its blocking client
#   _discovery.py  which gates run here, and where their sockets are
"""The control socket: protocol, server, client, discovery."""
