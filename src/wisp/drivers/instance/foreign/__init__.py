"""Other people's images in virtual machines and tenders: ``arguments`` and ``machine`` are pure, ``driver`` acts."""
