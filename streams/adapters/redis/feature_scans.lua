-- Numbers that are found among a window's entries, one by one: continues feature_state.lua.

-- Each scan costs in proportion to the entries of its window, but for those of a single entry.
local MIN, MAX, STD, DISTINCT, FIRST, BACK, SINCE = 1, 2, 3, 4, 5, 6, 7

local MOST_READ = 256
local chunks, sizes = {}, {}   -- reused: the values of a window's entries, some at a time

local FIND = {
  [MIN] = function(n)
    local least = chunks[1][1]
    for k = 1, n do least = min(least, spread(chunks[k], 1, sizes[k])) end
    return least
  end,
  [MAX] = function(n)
    local most = chunks[1][1]
    for k = 1, n do most = max(most, spread(chunks[k], 1, sizes[k])) end
    return most
  end,
  [STD] = function(n)   -- in two passes, and what the mean is off by is taken back out
    local first, count, sum, squares, off = chunks[1][1], 0, 0, 0, 0
    for k = 1, n do
      local chunk = chunks[k]
      for i = 1, sizes[k] do sum = sum + (chunk[i] - first) end
      count = count + sizes[k]
    end
    local mean = first + sum / count
    for k = 1, n do
      local chunk = chunks[k]
      for i = 1, sizes[k] do
        local distance = chunk[i] - mean
        squares, off = squares + distance * distance, off + distance
      end
    end
    return sqrt(max(0, squares - off * off / count) / count)
  end,
  [DISTINCT] = function(n)
    local seen, count = {}, 0
    for k = 1, n do
      local chunk = chunks[k]
      for i = 1, sizes[k] do
        local value = chunk[i]
        if not seen[value] then seen[value], count = true, count + 1 end
      end
    end
    return count
  end,
}

-- What a plan's bytes say of scans, from `at` on.
function scans_of(plan, bytes, at)
  local scanned, scans
  scanned, scans, at = read('<BB', bytes, at)
  plan.raw = scanned * 8
  for i = 1, scans do
    local scan = {}
    scan.kind, scan.newer, scan.older, scan.column, scan.back, at = read('<BBBBI4', bytes, at)
    plan.scans[i] = scan
  end
end

-- How `n` entries' values, from one of them on, are read: 1, 2, 4 ... MOST_READ of them at once.
local function reader(layout, n)
  layout.readers = layout.readers or {}
  local format = layout.readers[n]
  if not format then
    format = '<d' .. rep(rep('x', layout.size - 8) .. 'd', n - 1)
    layout.readers[n] = format
  end
  return format
end

-- Fill `chunks` with a column's values of the entries from `first` up to `last`, without the last.
local function gather(layout, source, held, tail, first, last, place)
  local size, n = layout.size, 0
  while first < last do
    local from, at, count, stop = source, first, MOST_READ, min(held, last)
    if first >= held then from, at, stop = tail, first - held, last end
    while count > stop - first do count = count / 2 end
    n, first = n + 1, first + count
    chunks[n], sizes[n] = { read(reader(layout, count), from, at * size + place + 1) }, count
  end
  return n
end

-- What the plan's scans find as of an event `offset` seconds after base, packed. `counts` has, by
-- edge, how many entries are at least that old; entries lie as an entity `e` has them.
local function look(plan, layout, source, held, tail, offset, counts)
  local found, n, known = '', 0, nil
  for _, scan in ipairs(plan.scans) do
    local first, last, kind = counts[scan.older], counts[scan.newer], scan.kind
    local i = kind == FIRST and first or last - scan.back
    local place = layout.kept + (scan.column - 1) * 8
    local value = NOTHING
    if first == last or i < first then
      value = NOTHING
    elseif FIND[kind] then
      if not (known and known.newer == scan.newer and known.older == scan.older
          and known.column == scan.column) then
        n, known = gather(layout, source, held, tail, first, last, place), scan
      end
      value = FIND[kind](n)
    else
      local from, at = source, i * layout.size + 1
      if i >= held then from, at = tail, (i - held) * layout.size + 1 end
      if kind == SINCE then value = offset - read(layout.time, from, at)
      else value = read('<d', from, at + place) end
    end
    found = found .. pack('<d', value)
  end
  return found
end
