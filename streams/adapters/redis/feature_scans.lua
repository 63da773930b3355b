-- Numbers that are found among a window's entries, one by one: continues feature_state.lua.

-- A scan reads its window's values once in a call, in blocks whose summaries are remembered (`memo`,
-- by place among the entries): the next event of the entity reads the blocks at its window's ends.
-- Whoever moves entries forgets the memo, or has it follow.

local MIN, MAX, STD, DISTINCT, FIRST, BACK, SINCE = 1, 2, 3, 4, 5, 6, 7
local BLOCK = BLOCK_SIZE   -- entries, a power of 2; as many values are read at once

-- What a plan's bytes say of scans, from `at` on. Those of the same window and column are a group.
function scans_of(plan, bytes, at)
  local scanned, scans, last
  scanned, scans, at = read('<BB', bytes, at)
  plan.raw, plan.needs = scanned * 8, {}
  for i = 1, scans do
    local scan = {}
    scan.kind, scan.newer, scan.older, scan.column, scan.back, at = read('<BBBBI4', bytes, at)
    local same = last and last.newer == scan.newer and last.older == scan.older
      and last.column == scan.column
    scan.needs = same and last.needs or {}
    scan.needs[scan.kind] = true
    local needs = plan.needs[scan.column] or {}
    needs[scan.kind], plan.needs[scan.column] = true, needs
    plan.scans[i], last = scan, scan
  end
end

-- How `n` entries' values, from one of them on, are read.
local function reader(layout, n)
  layout.readers = layout.readers or {}
  local format = layout.readers[n]
  if not format then
    format = '<d' .. rep(rep('x', layout.size - 8) .. 'd', n - 1)
    layout.readers[n] = format
  end
  return format
end

local entries = {}      -- reused: where the entries lie that are looked at, and the column's place

-- The values of the entries from `first` up to `last`, without it; one at least, BLOCK at most.
local function values_of(first, last)
  local layout, held, found, n = entries.layout, entries.held, nil, 0
  while first < last do
    local from, at, count, stop = entries.source, first, BLOCK, min(held, last)
    if first >= held then from, at, stop = entries.tail, first - held, last end
    while count > stop - first do count = count / 2 end   -- few sizes: a format for each
    local values = { read(reader(layout, count), from, at * layout.size + entries.place + 1) }
    if not found then found = values
    else for i = 1, count do found[n + i] = values[i] end end
    n, first = n + count, first + count
  end
  return found, n
end

-- What the kinds need of some values: the deviations' squares are summed in two passes, and what
-- the mean is off by is taken back out.
local function summary(needs, values, n)
  local found = { n = n }
  if needs[MIN] then found[MIN] = min(spread(values, 1, n)) end
  if needs[MAX] then found[MAX] = max(spread(values, 1, n)) end
  if needs[STD] then
    local first, sum, squares, off = values[1], 0, 0, 0
    for i = 2, n do sum = sum + (values[i] - first) end
    local mean = first + sum / n
    for i = 1, n do
      local distance = values[i] - mean
      squares, off = squares + distance * distance, off + distance
    end
    found.mean, found.squares = mean, max(0, squares - off * off / n)
  end
  return found
end

-- The standard deviation of all that `parts` summarise.
local function deviation(parts, count)
  local first, n, sum, squares = parts[1].mean, 0, 0, 0
  for i = 1, count do
    n, sum = n + parts[i].n, sum + parts[i].n * (parts[i].mean - first)
  end
  for i = 1, count do
    local distance = parts[i].mean - first - sum / n
    squares = squares + parts[i].squares + parts[i].n * distance * distance
  end
  return sqrt(squares / n)
end

local parts = {}        -- reused: summaries of a window's blocks, and of its ends

-- What a group of scans finds from `first` up to `last`. `whole` is what a block is asked for.
local function summarise(needs, whole, blocks, first, last)
  local count, found = 0, {}
  while first < last do
    local block = floor(first / BLOCK)
    local stop, part = min(last, (block + 1) * BLOCK), nil
    if stop - first < BLOCK then part = summary(needs, values_of(first, stop))
    else
      part = blocks[block] or summary(whole, values_of(first, stop))
      blocks[block] = part
    end
    count, first = count + 1, stop
    parts[count] = part
    if needs[MIN] then found[MIN] = min(found[MIN] or part[MIN], part[MIN]) end
    if needs[MAX] then found[MAX] = max(found[MAX] or part[MAX], part[MAX]) end
  end
  if needs[STD] then found[STD] = deviation(parts, count) end
  return found
end

-- Have the entries from `first` up to `last` enter (1) or leave (-1) what is counted.
local function count_values(state, first, last, step)
  local times, distinct = state.times, state.distinct
  while first < last do
    local stop = min(last, first + BLOCK)
    local values, n = values_of(first, stop)
    for i = 1, n do
      local value = values[i]
      local count = (times[value] or 0) + step
      if count == 0 then times[value], distinct = nil, distinct - 1
      else
        if count == 1 and step == 1 then distinct = distinct + 1 end
        times[value] = count
      end
    end
    first = stop
  end
  state.distinct = distinct
end

-- How many different values there are from `first` up to `last`; near to what was counted before.
local function distinct(state, first, last)
  if not state.times or first >= state.last or last <= state.first then
    state.first, state.last, state.times, state.distinct = first, first, {}, 0
  end
  count_values(state, state.last, last, 1)
  count_values(state, first, state.first, 1)
  count_values(state, state.first, first, -1)
  count_values(state, last, state.last, -1)
  state.first, state.last = first, last
  return state.distinct
end

-- What the plan's scans find as of an event `offset` seconds after base, packed. `counts` has, by
-- edge, how many entries are at least that old; entries lie as an entity `e` has them.
local function look(plan, layout, source, held, tail, offset, counts, memo)
  local answer, found, needs = '', nil, nil
  entries.layout, entries.source, entries.held, entries.tail = layout, source, held, tail
  for number, scan in ipairs(plan.scans) do
    local first, last, kind, column = counts[scan.older], counts[scan.newer], scan.kind, scan.column
    local i = kind == FIRST and first or last - scan.back
    local value = NOTHING
    entries.place = layout.kept + (column - 1) * 8
    if first < last and i >= first then
      if kind <= STD then
        if needs ~= scan.needs then
          local blocks = memo[column] or {}
          memo[column], needs = blocks, scan.needs
          found = summarise(needs, plan.needs[column], blocks, first, last)
        end
        value = found[kind]
      elseif kind == DISTINCT then
        local state = memo[-number] or {}
        memo[-number] = state
        value = distinct(state, first, last)
      else
        local from, at = source, i * layout.size + 1
        if i >= held then from, at = tail, (i - held) * layout.size + 1 end
        if kind == SINCE then value = offset - read(layout.time, from, at)
        else value = read('<d', from, at + entries.place) end
      end
    end
    answer = answer .. pack('<d', value)
  end
  return answer
end

-- Have the memo follow: an entry was put in at `place`, of `count` that there are now.
local function follow(plan, memo, place, count, raw)
  for column in pairs(plan.needs) do
    local blocks = memo[column]
    for block = floor(place / BLOCK), blocks and floor(count / BLOCK) or -1 do
      blocks[block] = nil
    end
  end
  for number, scan in ipairs(plan.scans) do
    local state = memo[-number]
    if state and place < state.first then
      state.first, state.last = state.first + 1, state.last + 1
    elseif state and place < state.last then
      local value = read('<d', raw, (scan.column - 1) * 8 + 1)
      local times = state.times[value] or 0
      if times == 0 then state.distinct = state.distinct + 1 end
      state.times[value], state.last = times + 1, state.last + 1
    end
  end
end
