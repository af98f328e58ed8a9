//! Index, cache, codec and blob joined into a readable layer; planner, background fetch.
