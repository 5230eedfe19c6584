"""A run on disk as MCAP: frames, results and events, written while the cameras run and replayed bit for bit.

format: what a file holds. sink: takes results from the loop, of one camera and one bundle or of a rig. recorder,
counts, writer: put them into a file. reader: gets them out of whole, cut and damaged files. replay: runs them again.
compare: says what differs.
"""
