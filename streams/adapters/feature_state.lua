#!lua name=driftloop_VERSION
--[[ Feature state: folds micro-batches of events, and of labels, into one string per entity.

One call folds a whole micro-batch, fenced by offset. The string of an entity, little-endian:

    widths   1 byte per column       bytes of a stored value: 0 to 4, or 8 for doubles
    base     u32                     entries' times count from here, in seconds
    last     u32                     newest event time
    ids      u32                     m, how many event ids follow
    row      u8, E x (u32, C x f64)  0 for hundredths or 1 for doubles; then for each of the plan's
                                     edges (ages), how many entries are that old and their sums
    rest     E x C x f64             only with doubles: what rounding left of the sums
    ids      m x 8 bytes             event ids of the last m entries, as they were sent
    entries  n x (u24, C x value)    seconds after base (u32 if kept for over 97 days), and values;
                                     in time order

A column is a summed field or, as the last one, the label. An entity's values are whole hundredths
in as few bytes as they need (two decimals are the rule, and their sums are exact), or doubles,
whose sums carry twice a double's precision. Labels that are all 0 take no space.

A window between two edges is a difference of counts and of sums, which the client takes: `row` is,
byte for byte, the answer to an event that came in time order. Entries older than the last edge are
not seen by anything; they are cut off a few at a time. ]]

local pack, read, spread, size_of, call
local sub, find, rep, byte, char, concat, floor, max, abs

-- A library that is being loaded sees no globals: bound at the first call.
local function bind()
  if pack then return end
  pack, read, spread, size_of = struct.pack, struct.unpack, unpack, struct.size
  sub, find, rep, byte, char = string.sub, string.find, string.rep, string.byte, string.char
  floor, max, abs, concat, call = math.floor, math.max, math.abs, table.concat, redis.call
end

local ROW = 4           -- place of the row in an entity's head, after base, last and ids
local DUPLICATE = 2     -- first byte of the row that answers a repeated event
local SLACK = 8         -- entries that may be past the last edge before they are cut off
local CHUNK = 1000      -- keys per MGET: Lua's stack is limited
local LIMIT = { [0] = 0, 0x7f, 0x7fff, 0x7fffff, 0x7fffffff }   -- largest value by width

-- Plans and layouts: parsed once, then found by their bytes.

local plans = {}

local function plan_of(bytes)
  local plan = plans[bytes]
  if plan then return plan end
  plan = { ages = {}, layouts = {} }
  local at
  plan.columns, plan.values, plan.edges, plan.remember, plan.label_age, at =
    read('<BBBI4I4', bytes)
  plan.stride = 1 + plan.columns
  for edge = 1, plan.edges do
    plan.ages[edge], at = read('<I4', bytes, at)
    if plan.remember > 0 and plan.ages[edge] == plan.remember then
      plan.remembered = ROW + 1 + (edge - 1) * plan.stride
    end
  end
  plan.kept = plan.ages[plan.edges]
  plan.oldest = ROW + 1 + (plan.edges - 1) * plan.stride
  plan.row_end = ROW + plan.edges * plan.stride
  plan.time = plan.kept < 0x800000 and 'I3' or 'I4'
  plan.reach = plan.kept < 0x800000 and 0xffffff or 0xffffffff
  plan.row = 'B' .. rep('I4' .. rep('d', plan.columns), plan.edges)
  plan.blank = rep('\0', size_of('<' .. plan.row))
  plan.duplicate = char(DUPLICATE) .. sub(plan.blank, 2)
  plan.fresh = rep('\1', plan.values) .. rep('\0', plan.columns - plan.values)
  plan.doubles = rep('\8', plan.columns)
  plans[bytes] = plan
  return plan
end

local function layout_of(plan, widths)
  local layout = plan.layouts[widths]
  if layout then return layout end
  layout = { widths = widths, exact = not find(widths, '\8', 1, true), limit = {}, value = {},
             place = {}, stored = 0, time = '<' .. plan.time, row = '<' .. plan.row }
  local entry = layout.time
  for column = 1, plan.columns do
    local width = byte(widths, column)
    layout.limit[column] = LIMIT[width]
    if width > 0 then
      local code = width == 8 and 'd' or 'i' .. width
      layout.stored = column
      layout.value[column] = '<' .. code
      layout.place[column] = size_of(entry)
      entry = entry .. code
    end
  end
  layout.entry, layout.size = entry, size_of(entry)
  local rests = layout.exact and 0 or plan.edges * plan.columns
  layout.rest = '<' .. rep('d', rests)
  layout.head = '<I4I4I4' .. plan.row .. rep('d', rests)
  layout.fields = plan.row_end + rests
  plan.layouts[widths] = layout
  return layout
end

-- One entity at a time. Its entries are `held` ones in `source` from byte `at`, then the tail.

local function load(e, plan, stored)
  e.plan, e.row, e.tail, e.ids = plan, nil, '', ''
  if not stored then
    e.layout, e.head, e.source, e.at, e.held, e.count = nil, nil, '', 1, 0, 0
    return
  end
  local layout = layout_of(plan, sub(stored, 1, plan.columns))
  local head = { read(layout.head, stored, plan.columns + 1) }
  local at = head[layout.fields + 1]
  local ids = head[3] * 8
  if ids > 0 then e.ids = sub(stored, at, at + ids - 1) end
  e.layout, e.head, e.source, e.at = layout, head, stored, at + ids
  e.held = (#stored - e.at + 1) / layout.size
  e.count = e.held
end

local function create(e, time)
  local plan = e.plan
  e.layout = layout_of(plan, plan.fresh)
  e.head = { max(0, time - plan.kept), time, 0 }
  for field = ROW, e.layout.fields do e.head[field] = 0 end
end

local function merge(e)
  e.source = sub(e.source, e.at) .. e.tail
  e.at, e.held, e.tail = 1, e.count, ''
end

local function entry(e, i)   -- string and place of the entry's bytes
  if i < e.held then return e.source, e.at + i * e.layout.size end
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

-- Move every edge on to `offset` seconds after base.
local function advance(e, offset)
  local plan, layout, head, count, held = e.plan, e.layout, e.head, e.count, e.held
  local ages, stride, size, time = plan.ages, plan.stride, layout.size, layout.time
  local source, first, tail = e.source, e.at, e.tail
  local slot = ROW + 1
  for edge = 1, plan.edges do
    local i, bound = head[slot], offset - ages[edge]
    while i < count do
      local from, at = source, first + i * size
      if i >= held then from, at = tail, (i - held) * size + 1 end
      if read(time, from, at) > bound then break end
      add_entry(e, head, slot, from, at, 1)
      i = i + 1
    end
    head[slot] = i
    slot = slot + stride
  end
end

-- Drop the entries past the last edge.
local function cut(e)
  local plan, head = e.plan, e.head
  local gone = head[plan.oldest]
  merge(e)
  e.source = sub(e.source, gone * e.layout.size + 1)
  e.count = e.count - gone
  e.held = e.count
  local sums, columns = {}, plan.columns
  for column = 1, columns do
    local rest = plan.row_end + (plan.edges - 1) * columns + column
    sums[column] = head[plan.oldest + column]
    sums[columns + column] = e.layout.exact and 0 or head[rest]
  end
  for slot = ROW + 1, plan.oldest, plan.stride do
    head[slot] = head[slot] - gone
    for column = 1, columns do
      add(e, head, slot, column, -sums[column])
      add(e, head, slot, column, -sums[columns + column])
    end
  end
  local extra = #e.ids / 8 - e.count
  if extra > 0 then e.ids = sub(e.ids, extra * 8 + 1) end
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
  end
  e.source, e.at, e.held, e.tail, e.layout = concat(entries), 1, e.count, '', new
  head[1] = base
  if scale == 1 then return end
  head[ROW] = 1
  for field = plan.row_end + 1, new.fields do head[field] = 0 end
  for slot = ROW + 1, plan.oldest, plan.stride do
    for column = 1, plan.columns do head[slot + column] = 0 end
    for i = 0, head[slot] - 1 do
      local from, at = entry(e, i)
      add_entry(e, head, slot, from, at, 1)
    end
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
      recode(e, sub(widths, 1, column - 1) .. char(width) .. sub(widths, column + 1), e.head[1])
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
    advance(e, time - head[1])
    cut(e)
    recode(e, e.layout.widths, time - plan.kept)
  end
  local offset, layout = time - head[1], e.layout
  e.tail = e.tail .. pack(layout.entry, offset, spread(values, 1, layout.stored))
  e.count = e.count + 1
  if id then e.ids = e.ids .. id end
  head[2] = time
  advance(e, offset)
  return head
end

-- Count an event in that is older than the newest; returns the head as of the event's time.
local function insert(e, time, id, values)
  local head, plan, layout = e.head, e.plan, e.layout
  local offset = time - head[1]
  merge(e)
  local place = up_to(e, offset, head[plan.oldest])
  local at = place * layout.size
  local bytes = pack(layout.entry, offset, spread(values, 1, layout.stored))
  e.source = sub(e.source, 1, at) .. bytes .. sub(e.source, at + 1)
  local before = (place - e.count) * 8 + #e.ids
  if id and before >= 0 then e.ids = sub(e.ids, 1, before) .. id .. sub(e.ids, before + 1) end
  e.count = e.count + 1
  e.held = e.count
  local seen = {}
  for edge = 1, plan.edges do
    local slot = ROW + 1 + (edge - 1) * plan.stride
    if time <= head[2] - plan.ages[edge] then
      head[slot] = head[slot] + 1
      add_entry(e, head, slot, bytes, 1, 1)
    end
  end
  for field = 1, layout.fields do seen[field] = head[field] end
  for edge = 1, plan.edges do
    local slot = ROW + 1 + (edge - 1) * plan.stride
    local i, bound = head[slot], offset - plan.ages[edge]
    while i > head[plan.oldest] and time_of(e, i - 1) > bound do
      i = i - 1
      local from, begin = entry(e, i)
      add_entry(e, seen, slot, from, begin, -1)
    end
    seen[slot] = i
  end
  return seen
end

-- Returns what became of a label: 0 no such event, 1 added, 2 added late.
local function label(e, time, delta, exact)
  local head, plan = e.head, e.plan
  if not head then return 0 end
  local offset, column = time - head[1], plan.columns
  local i = up_to(e, offset - 1, head[plan.oldest])
  if i == e.count or time_of(e, i) ~= offset then return 0 end
  if not e.layout.exact and exact then delta = delta / 100 end
  if e.layout.exact and not exact then recode(e, plan.doubles, head[1]) end
  local from, at = entry(e, i)
  local values = {}
  for c = 1, column do values[c] = 0 end
  if column <= e.layout.stored then
    values[column] = read(e.layout.value[column], from, at + e.layout.place[column])
  end
  values[column] = values[column] + delta
  if e.layout.exact then fit(e, values, true) end
  local layout = e.layout
  if column <= layout.stored then
    merge(e)
    at = i * layout.size + layout.place[column] + 1
    local bytes = pack(layout.value[column], values[column])
    e.source = sub(e.source, 1, at - 1) .. bytes .. sub(e.source, at + #bytes)
  end
  for slot = ROW + 1, plan.oldest, plan.stride do
    if head[slot] > i then add(e, head, slot, column, delta) end
  end
  return time <= head[2] - plan.label_age and 2 or 1
end

local function save(e)
  local plan, head = e.plan, e.head
  if head[plan.oldest] >= SLACK then
    cut(e)
    e.row = nil
  end
  local ids, layout = e.ids, e.layout
  if plan.remembered then
    local kept = (e.count - head[plan.remembered]) * 8
    if kept < #ids then ids = sub(ids, #ids - kept + 1) end
  end
  return layout.widths .. pack('<I4I4I4', head[1], head[2], #ids / 8)
    .. (e.row or pack(layout.row, spread(head, ROW, plan.row_end)))
    .. pack(layout.rest, spread(head, plan.row_end + 1, layout.fields))
    .. ids .. sub(e.source, e.at) .. e.tail
end
