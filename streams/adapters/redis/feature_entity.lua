-- One entity's string, taken apart and put together: continues feature_fast.lua.

-- An entity `e` is one reused table. Its entries are the first `held` ones of `source`, then those
-- of `tail`. `stored` is the size of the stored string while it begins with the same entries.
-- `past` is the head as of the latest event that was out of order: the next such event is near it,
-- as a rule. Whatever moves entries forgets it.

local function load(e, plan, stored)
  e.plan, e.raw, e.tail, e.ids, e.past = plan, '', '', '', nil
  e.memo = #plan.scans > 0 and {} or nil
  if not stored then
    e.layout, e.head, e.stored, e.source, e.held, e.count = nil, nil, nil, '', 0, 0
    return
  end
  local layout = layout_of(plan, sub(stored, #stored - plan.columns + 1))
  local head = { read(layout.head, stored, #stored - layout.ending + 1) }
  local held = head[5]
  if head[3] > 0 then e.ids = sub(stored, held * layout.size + 1, held * layout.size + head[3] * 8) end
  e.layout, e.head, e.stored, e.source, e.held = layout, head, #stored, stored, held
  e.count = e.held
end

local function create(e, time)
  local plan = e.plan
  e.layout = layout_of(plan, plan.fresh)
  e.head = { max(0, time - plan.kept), time, 0, time, 0 }
  for field = ROW, e.layout.fields do e.head[field] = 0 end
end

local function merge(e)   -- all entries in `source`, to be changed there
  e.source = sub(e.source, 1, e.held * e.layout.size) .. e.tail
  e.stored, e.held, e.tail = nil, e.count, ''
end

local function entry(e, i)   -- string and place of the entry's bytes
  if i < e.held then return e.source, i * e.layout.size + 1 end
  return e.tail, (i - e.held) * e.layout.size + 1
end

local function time_of(e, i)   -- seconds after base
  local from, at = entry(e, i)
  return (read(e.layout.time, from, at))
end

local function up_to(e, offset, low)   -- entries not after `offset`; from `low` on by halving
  local high = e.count
  while low < high do
    local middle = floor((low + high) / 2)
    if time_of(e, middle) <= offset then low = middle + 1 else high = middle end
  end
  return low
end

-- Add to a sum: exactly, or with the rounding error carried in `rest` (Knuth's two-sum).
local function add(e, head, slot, column, value)
  local sum = slot + column
  if e.layout.exact then
    head[sum] = head[sum] + value
    return
  end
  local plan = e.plan
  local rest = plan.row_end + (slot - ROW - 1) / plan.stride * plan.columns + column
  local old = head[sum]
  local new = old + value
  local part = new - old
  local low = head[rest] + ((old - (new - part)) + (value - part))
  head[sum] = new + low
  head[rest] = low - (head[sum] - new)
end

local function add_entry(e, head, slot, from, at, sign)
  local layout = e.layout
  for column = 1, layout.stored do
    local value = read(layout.value[column], from, at + layout.place[column])
    add(e, head, slot, column, sign * value)
  end
end

-- Move every edge of a head on to `offset` seconds after base, and past what the entity forgets.
local function advance(e, head, offset)
  local plan, layout, count, held = e.plan, e.layout, e.count, e.held
  local least = e.head[plan.oldest]
  local ages, stride, size, time = plan.ages, plan.stride, layout.size, layout.time
  local source, tail = e.source, e.tail
  local slot = ROW + 1
  for edge = 1, plan.edges do
    local i, bound = head[slot], offset - ages[edge]
    while i < count do
      local from, at = source, i * size + 1
      if i >= held then from, at = tail, (i - held) * size + 1 end
      if read(time, from, at) > bound and i >= least then break end
      add_entry(e, head, slot, from, at, 1)
      i = i + 1
    end
    head[slot] = i
    slot = slot + stride
  end
end

-- Move every edge of a head back to `offset` seconds after base; not into what the entity forgets.
local function retreat(e, head, offset)
  local plan = e.plan
  local least, slot = e.head[plan.oldest], ROW + 1
  for edge = 1, plan.edges do
    local i, bound = head[slot], offset - plan.ages[edge]
    while i > least and time_of(e, i - 1) > bound do
      i = i - 1
      local from, at = entry(e, i)
      add_entry(e, head, slot, from, at, -1)
    end
    head[slot] = i
    slot = slot + plan.stride
  end
end

-- The head as of `offset` seconds after base.
local function as_of(e, offset)
  local past = e.past
  if not past then
    past = {}
    for field = 1, e.layout.fields do past[field] = e.head[field] end
  end
  retreat(e, past, offset)
  advance(e, past, offset)
  e.past = past
  return past
end

-- Count an entry that was put in at `offset` into the edges of a head as of `now`.
local function count_in(e, head, now, offset, bytes)
  local plan, slot = e.plan, ROW + 1
  for edge = 1, plan.edges do
    if offset <= now - plan.ages[edge] then
      head[slot] = head[slot] + 1
      add_entry(e, head, slot, bytes, 1, 1)
    end
    slot = slot + plan.stride
  end
end

local function sum_again(e)   -- doubles: leaves no rounding of entries that are gone
  local plan, head = e.plan, e.head
  for field = plan.row_end + 1, e.layout.fields do head[field] = 0 end
  for slot = ROW + 1, plan.oldest, plan.stride do
    for column = 1, plan.columns do head[slot + column] = 0 end
    for i = 0, head[slot] - 1 do
      local from, at = entry(e, i)
      add_entry(e, head, slot, from, at, 1)
    end
  end
end

-- Drop the entries past the last edge.
local function cut(e)
  local plan, head = e.plan, e.head
  local gone = head[plan.oldest]
  merge(e)
  e.past, e.memo = nil, e.memo and {}
  e.source = sub(e.source, gone * e.layout.size + 1)
  e.count = e.count - gone
  e.held = e.count
  for slot = ROW + 1, plan.oldest, plan.stride do   -- the last edge, which is subtracted, is last
    head[slot] = head[slot] - gone
    for column = 1, plan.columns do
      head[slot + column] = head[slot + column] - head[plan.oldest + column]
    end
  end
  if not e.layout.exact then sum_again(e) end
  local extra = #e.ids / 8 - e.count
  if extra > 0 then e.ids = sub(e.ids, extra * 8 + 1) end
end

-- Forget the oldest entries of an entity that has too many.
local function shorten(e)
  local plan, head = e.plan, e.head
  local gone = e.count - LEFT
  for slot = ROW + 1, plan.oldest, plan.stride do
    for i = head[slot], gone - 1 do
      local from, at = entry(e, i)
      add_entry(e, head, slot, from, at, 1)
    end
    head[slot] = max(head[slot], gone)
  end
  cut(e)
end

-- Write all entries anew, with other widths or another base.
local function recode(e, widths, base)
  local plan, old, head = e.plan, e.layout, e.head
  local new = layout_of(plan, widths)
  local scale = (old.exact and not new.exact) and 100 or 1
  local entries, values, shift = {}, {}, base - head[1]
  for i = 0, e.count - 1 do
    local from, at = entry(e, i)
    for column = 1, plan.columns do
      values[column] = 0
      if column <= old.stored then
        values[column] = read(old.value[column], from, at + old.place[column]) / scale
      end
    end
    local time = read(old.time, from, at) - shift
    entries[i + 1] = pack(new.entry, time, spread(values, 1, new.stored))
      .. sub(from, at + old.kept, at + old.size - 1)
  end
  e.source, e.stored, e.held, e.tail, e.layout, e.past = concat(entries), nil, e.count, '', new, nil
  head[1] = base
  if not new.exact then
    head[ROW] = 1
    sum_again(e)
  end
end

-- Make the entity's layout take these values, and the values fit the layout.
local function fit(e, values, exact)
  local plan, layout = e.plan, e.layout
  if not exact then
    if layout.exact then recode(e, plan.doubles, e.head[1]) end
    return
  end
  for column = 1, plan.columns do
    local value = values[column]
    if not layout.exact then
      values[column] = value / 100
    elseif abs(value) > layout.limit[column] then
      local width = byte(layout.widths, column)
      repeat width = width + 1 until abs(value) <= LIMIT[width]
      local widths = layout.widths
      local before = sub(widths, 1, column - 1)
      if column > plan.values then before = gsub(before, '%z', '\1') end   -- no gap among labels
      recode(e, before .. char(width) .. sub(widths, column + 1), e.head[1])
      layout = e.layout
    end
  end
end

local function knows(e, time, id)   -- whether the event came within `remember`
  local at = find(e.ids, id, 1, true)
  if not at then return false end
  local head = e.head
  local bound = max(head[2], time) - e.plan.remember - head[1]
  local first = e.count - #e.ids / 8
  while at do
    if (at - 1) % 8 == 0 and time_of(e, first + (at - 1) / 8) > bound then return true end
    at = find(e.ids, id, at + 1, true)
  end
  return false
end

local function append(e, time, id, values)
  local head, plan = e.head, e.plan
  if time - head[1] > plan.reach then
    advance(e, head, time - head[1])
    cut(e)
    recode(e, e.layout.widths, time - plan.kept)
  end
  local offset, layout = time - head[1], e.layout
  e.tail = e.tail .. pack(layout.entry, offset, spread(values, 1, layout.stored)) .. e.raw
  e.count = e.count + 1
  if id then e.ids = e.ids .. id end
  head[2] = time
  advance(e, head, offset)
  return head
end

-- Count an event in that is older than the newest; returns the head as of the event's time.
local function insert(e, time, id, values)
  local head, plan, layout = e.head, e.plan, e.layout
  local offset = time - head[1]
  merge(e)
  local past = as_of(e, offset)
  local place = up_to(e, offset, head[plan.oldest])
  local at = place * layout.size
  local bytes = pack(layout.entry, offset, spread(values, 1, layout.stored)) .. e.raw
  e.source = sub(e.source, 1, at) .. bytes .. sub(e.source, at + 1)
  local before = (place - e.count) * 8 + #e.ids
  if id and before >= 0 then e.ids = sub(e.ids, 1, before) .. id .. sub(e.ids, before + 1) end
  e.count = e.count + 1
  e.held = e.count
  if e.memo then follow(plan, e.memo, place, e.count, e.raw) end
  count_in(e, head, head[2] - head[1], offset, bytes)
  count_in(e, past, offset, offset, bytes)
  return past
end

-- Add to the label columns, `deltas` by column. Returns what became of it: 0 no such event, 1
-- added, 2 added late.
local function label(e, time, deltas, exact)
  local head, plan = e.head, e.plan
  if not head then return 0 end
  local offset, column = time - head[1], plan.values + 1
  local i = up_to(e, offset - 1, head[plan.oldest])
  if i == e.count or time_of(e, i) ~= offset then return 0 end
  local scale = not e.layout.exact and exact and 100 or 1
  if e.layout.exact and not exact then recode(e, plan.doubles, head[1]) end
  local from, at = entry(e, i)
  local values = {}
  for c = 1, plan.columns do
    values[c] = 0
    if c >= column then
      deltas[c] = deltas[c] / scale
      if c <= e.layout.stored then
        values[c] = read(e.layout.value[c], from, at + e.layout.place[c])
      end
      values[c] = values[c] + deltas[c]
    end
  end
  if e.layout.exact then fit(e, values, true) end
  local layout = e.layout
  if column <= layout.stored then
    merge(e)
    at = i * layout.size + layout.place[column] + 1
    local bytes = ''
    for c = column, layout.stored do bytes = bytes .. pack(layout.value[c], values[c]) end
    e.source = sub(e.source, 1, at - 1) .. bytes .. sub(e.source, at + #bytes)
  end
  for slot = ROW + 1, plan.oldest, plan.stride do
    if head[slot] > i then
      for c = column, plan.columns do add(e, head, slot, c, deltas[c]) end
    end
  end
  return time <= head[2] - plan.label_age and 2 or 1
end

local function ending(e)   -- what follows the room
  local plan, head, layout = e.plan, e.head, e.layout
  if plan.remembered then
    local kept = (e.count - head[plan.remembered]) * 8
    if kept < #e.ids then e.ids = sub(e.ids, #e.ids - kept + 1) end
  end
  head[3], head[5] = #e.ids / 8, e.count
  return pack(layout.head, spread(head, 1, layout.fields)) .. layout.widths
end

-- What to write: the whole string; or, from a place counted from 0 that is returned too, its end.
local function save(e)
  local plan, head, size = e.plan, e.head, e.layout.size
  if e.stored and head[2] - head[4] < plan.refresh then
    local bytes, from = ending(e), e.held * size
    local room = e.stored - from - #e.tail - #e.ids - #bytes
    if room >= 0 then return e.tail .. e.ids .. rep('\0', room) .. bytes, from end
  end
  head[4] = head[2]
  if head[plan.oldest] > 0 then cut(e) end
  local bytes = ending(e)
  return sub(e.source, 1, e.held * size) .. e.tail .. e.ids
    .. rep('\0', room_of(plan, size, e.count)) .. bytes
end
